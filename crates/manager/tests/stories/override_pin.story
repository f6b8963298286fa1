# A pin moves a service where it is to be, with its data, and keeps it there, whatever fails; at its end it may move again.
auto on
estate providers=there; db offering=postgresql prefer=here,there backup=15m loses=1h; web needs=db
tick 20m
ask override pin db there by Ada for 2h
status
ask failover db to here
crashing db
die db-2 spent
tick 5m
status
mended db
tick 2h
status
