# What was restored is not as consumers rely on: nothing was used, so all is as it was.
auto on
offers postgresql 15.18
estate upgrade soak=1m; db offering=postgresql; web needs=db
offers postgresql 15.18,16.4
flawed db 16.4 broken
ask upgrade db to 16
tick 2h
status
