# The last word of a person counts: what was to be deleted, and could not be yet, is only left to its provider.
estate db offering=bought
ended open db ok
auto on
tick 1s
ask down
auto off
ask delete db
ended delete db-1 temporary
ask release db
tick 1m
ended observe db-1 ok
ended release db-1 ok
status
