# Stopped and kept; it comes back as it was; it is deleted only by name.
auto on
estate db offering=postgresql; web needs=db
ask delete web
estate db offering=postgresql
status
estate db offering=postgresql; web needs=db
status
estate web
status
estate web; db offering=redis
ask delete db
status
estate web; db offering=redis
status
