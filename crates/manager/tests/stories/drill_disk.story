# A full disk is seen. When there is room again, all works; what is not seen is told.
auto on
estate drill lasts=1m; db offering=postgresql backup=15m; web needs=db
ask backup db one
tick 10m
ask drill db fill-disk
tick 2m
status
auto off
ask drill db fill-disk
ended cause db ok
tick 1m
auto on
tick 10s
status
