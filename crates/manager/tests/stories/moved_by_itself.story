# What does not come back where it is goes where it is declared that it may, once restarting has become unlikely to help.
auto on
estate providers=there; cache offering=redis prefer=here,there; web needs=cache
crashing cache
die cache-1 spent
tick 2s
mended cache
tick 1m
status
# Not again for an hour: a person is asked.
tick 10m
crashing cache
die cache-2 spent
tick 3m
status
