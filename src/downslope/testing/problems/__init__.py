"""Problems with known answers, published or exact: tasks ``downslope.testing.problems.NAME:problem``."""
