from numbaglm.stats.variance.covariance import ADJUSTMENTS, DEGREES_OF_FREEDOM, ESTIMATORS, FEW_CLUSTERS, Sandwich


def test_the_defaults_are_in_the_tables():
    one = Sandwich()
    assert ADJUSTMENTS[one.adjustment].endswith("(CR2)")
    assert one.dof in DEGREES_OF_FREEDOM
    assert one.estimator in ESTIMATORS
    assert {*ESTIMATORS, "binned-gls"} == FEW_CLUSTERS.keys()
