"""Operations written for the speed of XLA on a CPU; their values are those of the plain ones."""
