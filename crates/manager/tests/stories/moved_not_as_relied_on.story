# What is restored is looked at before anybody gets at it; what is not as its consumers rely on is not used.
auto on
estate providers=there; db offering=postgresql; web needs=db
broken db
ask failover db
tick 1m
status
mended db
ask failover db
tick 1m
status
