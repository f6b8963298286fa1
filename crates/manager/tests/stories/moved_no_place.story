# A provider at which it cannot be made is passed over for the next allowed one; when none is left a person is asked.
auto on
estate providers=there,yonder; db offering=postgresql; web needs=db
auto off
ask failover db
ended fence db ok
ended backup db-1 ok
ended stop db-1 ok
ended provision db-2 person
ended provision db-3 temporary
ended observe db-3 ok
ended provision db-3 temporary
tick 1s
ended observe db-3 ok
ended provision db-3 temporary
status
# A person looked after it: the restart tries again.
auto on
ask restart db
tick 10s
status
