"""INT8 where it pays: which nodes, with which ranges, in which form."""
