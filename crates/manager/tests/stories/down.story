# Who uses others stops first; what is used goes on serving until then.
auto on
estate db offering=postgresql; api needs=db; web needs=api,db instances=2
auto off
ask down
ended stop web-1 ok
status
ended stop web-2 ok
# It dies by itself while it is to stop: what it used may stop all the same.
die api-1 spent
auto on
tick 1s
status
ask restart web
ask delete web
estate db offering=postgresql; api needs=db; web needs=api,db instances=2
status
