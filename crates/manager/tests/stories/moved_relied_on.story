# Credentials of what is fenced are good for nothing: a consumer that relied on them gets others without a look first.
auto on
estate providers=there; db offering=bought; web needs=db
verified web/db ok
ask failover db accept-loss
status
