"""Tests run side by side, so each process keeps to one thread of BLAS: threads that spin for work
keep the processors from those that have some."""

from threadpoolctl import threadpool_limits

threadpool_limits(1, user_api="blas")
