"""Cohorts to try things on: simulated ones, and one that nilearn fetches."""

from __future__ import annotations

from numbaglm.datasets.localizer import LocalizerCohort, fetch_localizer
from numbaglm.datasets.phantom import brain_geometry, simulate_maps
from numbaglm.datasets.simulated import (
    SimulatedCohort,
    SimulatedStudy,
    simulate_button_press,
    simulate_study,
)
from numbaglm.datasets.surfaces import SimulatedSurfaces, simulate_surface_cohort

__all__ = [
    "LocalizerCohort",
    "SimulatedCohort",
    "SimulatedStudy",
    "SimulatedSurfaces",
    "brain_geometry",
    "fetch_localizer",
    "simulate_button_press",
    "simulate_maps",
    "simulate_study",
    "simulate_surface_cohort",
]
