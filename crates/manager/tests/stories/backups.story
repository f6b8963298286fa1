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
# One that fails is shown, and the schedule goes on.
auto off
tick 15m
ended backup db-1 temporary
status
auto on
tick 15m
status
