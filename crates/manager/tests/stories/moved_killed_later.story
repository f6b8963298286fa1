# The same, later: what was done is not done twice, and what was not is.
auto on
estate providers=there; db offering=postgresql; web needs=db
auto off
ask failover db
ended fence db ok
ended backup db-1 cut-off
resume started
auto on
tick 5s
status
