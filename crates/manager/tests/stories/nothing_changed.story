auto on
estate db offering=postgresql; web needs=db instances=2
estate db offering=postgresql; web needs=db instances=2
tick 24h
