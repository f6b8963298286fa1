# It is Monday, 12:00. One service after the other, the faults in turn, within the window, and in no freeze.
auto on
estate drill every=3d window=Mon-Fri_13:00_-_14:00_Europe/Berlin freeze=2026-01-08_-_2026-01-08 lasts=1m; cache offering=redis; web needs=cache
tick 9m
tick 2m
tick 20m
tick 1h
# Tuesday to Friday: due on Thursday, which is frozen.
tick 3d
tick 1d
tick 7d
