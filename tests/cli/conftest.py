from running import finished_run

__all__ = ["finished_run"]
