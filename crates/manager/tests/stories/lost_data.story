# Its data is gone from where it was: an empty one is not put in its place in passing.
auto on
estate db offering=postgresql; web needs=db
ask down
lose db-1
estate db offering=postgresql; web needs=db
status
# Neither a restart of the manager, nor another file, nor down and up is an answer.
resume started
estate db offering=postgresql env=blue; web needs=db
ask down
estate db offering=postgresql; web needs=db
status
# A person says so. Who used it gets new credentials, and is started with them.
ask restart db
status
