# What is bought is changed where it is.
estate db offering=bought env=one
auto on
tick 1s
auto off
estate db offering=bought env=two
status
ended update db-1 temporary
ended observe db-1 ok
tick 1s
ended update db-1 ok
status
