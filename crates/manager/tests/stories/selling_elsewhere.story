# Somebody else has the port that was to be sold: another one is taken, as long as nobody was told of the first.
estate selling=2
sell db offering=redis
ended open sold-db temporary
ended open sold-db ok
auto on
status
# Once it was delivered it stays where it is: credentials say so.
auto off
ask down
auto on
tick 1s
auto off
estate selling=2
ended open sold-db temporary
tick 5s
status
