# What a move left is deleted when it was kept for as long as declared: once a backup was made where the data is now.
auto on
estate providers=there; db offering=postgresql backup=8h keep-old=24h; web needs=db
tick 5m
ask failover db
status
tick 24h
status
