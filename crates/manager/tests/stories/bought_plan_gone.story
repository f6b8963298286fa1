# The provider's catalog has the plan no more of which the database was bought. What exists stays what it is, also when
# the file is given again with a change; nothing more is bought of it.
estate db offering=bought
auto on
tick 1m
gone bought small
tick 1m
estate db offering=bought env=new
tick 1m
status
estate db offering=bought env=new; other offering=bought
tick 1m
status
