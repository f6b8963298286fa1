# A provider that wants to hear where its things are used is told when that changes, once, and nothing restarts.
estate context=4711; db offering=bought; web needs=db
auto on
tick 1s
estate context=4712; db offering=bought; web needs=db
status
# What has heard it hears it no more.
estate context=4712; db offering=bought; web needs=db
tick 1m
# It is put off, and told once it can be.
auto off
estate context=4713; db offering=bought; web needs=db
ended update db-1 temporary
ended observe db-1 ok
auto on
tick 1m
status
