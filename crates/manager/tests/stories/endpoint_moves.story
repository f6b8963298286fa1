# The need moves: every consumer is bound again and replaced, and not before.
auto on
estate db offering=postgresql endpoint=5432; a needs=db; b needs=db
auto off
estate db offering=postgresql endpoint=5433; a needs=db; b needs=db
auto on
tick 1s
status
