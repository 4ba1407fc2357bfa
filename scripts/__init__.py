"""Tools of the house; none of them is shipped."""
