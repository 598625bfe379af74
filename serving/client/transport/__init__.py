"""How one call travels: addresses, security, and the two protocols behind one seam."""
