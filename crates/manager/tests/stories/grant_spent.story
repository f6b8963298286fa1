# The reflex answered, and that did not help: the next death is the second failure, and the pause comes at once.
auto on
estate web
auto off
die web-1
die web-1 spent
tick 1s
ended start web-1 ok
die web-1 spent
status
# One that was healthy until its restarts were spent is started again without a pause.
auto on
tick 10m
auto off
die web-1 spent
