# A backup that cannot be restored is passed over for the next older one; when none is left a person is asked, and can go
# back.
auto on
estate providers=there; db offering=postgresql loses=2h; web needs=db
ask backup db first
tick 30m
ask backup db second
tick 10m
crashing db
die db-1 spent
tick 10s
auto off
ask failover db
mended db
ended fence db ok
ended provision db-2 ok
ended start db-2 ok
probe db-2 ready
ended restore db-2 person
ended restore db-2 temporary
tick 1s
ended restore db-2 interrupted
tick 1s
ended observe db-2 ok
ended restore db-2 temporary
tick 2s
ended restore db-2 temporary
status
# It is asked once.
tick 1m
ask failover db
ended restore db-2 person
status
ask back db
auto on
status
tick 10m
status
