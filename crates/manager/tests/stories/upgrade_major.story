# Another series of versions cannot read the data: it is dumped, restored into a new instance, looked at, and then used.
auto on
offers postgresql 15.18
estate upgrade soak=1m; db offering=postgresql; web needs=db
offers postgresql 15.18,16.4
status
ask upgrade db
tick 2m
status
ask rollback db
ask rollback db accept-loss
tick 2m
status
