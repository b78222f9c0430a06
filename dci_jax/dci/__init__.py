"""The method: one inverter for each block, chained from the split back to the input (Dong et al., BMVC 2022)."""
