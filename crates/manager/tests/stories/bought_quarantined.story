# Something is there under the very name, and nobody can say whose it is: a person decides.
estate db offering=bought
ended open db ok
ended provision db-1 unclear
status
ask settle db-1/7 delete
ask restart db
ended provision db-1 ok
auto on
status
ask settle db-1/1 release
status
auto off
# What cannot be deleted for a day is a person's too.
estate db offering=bought instances=2
ended provision db-2 left-behind
ended mitigate db-2/1 temporary
ended provision db-2 ok
ended start db-2 ok
probe db-2 ready
tick 25h
ended mitigate db-2/1 temporary
status
ask settle db-2/1 delete
ended mitigate db-2/1 ok
status
