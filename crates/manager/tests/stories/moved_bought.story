# What is bought at brokers moves, too: its consumers get credentials there, and those of the old one are ended.
auto on
estate providers=there; db offering=bought; web needs=db
ask failover db
ask failover db accept-loss
status
