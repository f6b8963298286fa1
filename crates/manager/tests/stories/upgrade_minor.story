# What holds data is backed up first, and upgraded where it is.
auto on
offers postgresql 15.18
estate db offering=postgresql; web needs=db instances=2
offers postgresql 15.18,15.19
status
auto off
ask upgrade db
ended backup db-1 temporary
tick 5m
ended backup db-1 temporary
tick 10m
ended backup db-1 temporary
status
auto on
ask upgrade db
tick 2h
status
