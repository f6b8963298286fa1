# A backup that is too old is not taken unless a person accepts what is lost.
auto on
estate providers=there; db offering=postgresql loses=10m; web needs=db
ask backup db monday
tick 1h
crashing db
die db-1 spent
tick 10s
ask failover db
ask failover db accept-loss
mended db
tick 1m
status
