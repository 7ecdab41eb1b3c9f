"""What nilearn's users pass - tables of maps, first-level models, maskers, designs - as numbaglm takes it."""
