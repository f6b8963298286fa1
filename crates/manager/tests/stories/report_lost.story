# Manager and keeper die; an instance dies, is started again, and the keeper that knows how it ended dies too. The next
# manager finds another process than the one it knows: that there was a death is concluded from that alone.
auto on
estate web
auto off
die web-1 unreported
resume started
auto on
tick 1s
status
