"""One call until it is answered: the server it goes to, repetitions, pace, and who is told."""
