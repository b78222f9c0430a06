"""The paper's inverters, trained: divide and conquer."""
