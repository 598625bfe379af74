"""From pictures to masks by calls: which calls give which products, of one, of many, of a large one."""
