package program

// InterruptedWithin is Interrupted with a time within which signals mean the same.
var InterruptedWithin = interrupted
