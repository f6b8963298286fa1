# The new instance is lost before anybody used it: it is made anew, and the data is brought again.
auto on
estate providers=there; db offering=postgresql; web needs=db
auto off
ask failover db
ended fence db ok
ended backup db-1 ok
ended stop db-1 ok
ended provision db-2 ok
ended start db-2 ok
probe db-2 ready
ended restore db-2 ok
die db-2 spent
lose db-2
auto on
resume started
tick 1m
status
