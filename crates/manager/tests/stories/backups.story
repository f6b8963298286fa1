auto on
estate db offering=postgresql backup=15m; web needs=db
tick 15m
tick 15m
ask backup db before-the-sale
ask backup db before-the-sale
ask backup db ../etc
ask backup web now
ask restore db nonsense
ask restore db before-the-sale
# One that fails is shown, and tried again after a pause that grows; people hear of the third in a row.
auto off
tick 15m
ended backup db-1 temporary
status
tick 1m
ended backup db-1 temporary
tick 1m
tick 1m
ended backup db-1 temporary
auto on
tick 4m
status
# The schedule goes on from there.
tick 15m
