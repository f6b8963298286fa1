# The manager starts again: what runs is adopted, what died meanwhile is started.
auto on
estate db offering=postgresql; web needs=db instances=2
auto off
resume started
ended observe web-1 ok
status
auto on
tick 1s
# The holder died and has come back: it is told again how to start what it holds.
resume holder-returned
status
# Something was being done when the manager was killed: first it looks.
auto off
ask restart web
resume started
auto on
tick 1s
status
