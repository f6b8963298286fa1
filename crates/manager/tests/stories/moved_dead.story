# The old instance does not answer: the newest backup is taken if it is recent enough, and what it loses is said.
auto on
estate providers=there; db offering=postgresql backup=15m; web needs=db
tick 20m
crashing db
die db-1 spent
tick 10s
ask failover db
mended db
status
tick 1m
status
