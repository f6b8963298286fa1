# What holds nothing that lasts needs no backup: all of its instances are made anew elsewhere.
auto on
estate providers=there; cache offering=redis instances=2; web needs=cache
ask failover cache to there
status
# It is moved back, as another instance; and forbidden moves, and those that make no sense, are refused.
ask failover cache
ask failover cache to there
ask failover cache to nowhere
ask back cache
ask failover db
status
