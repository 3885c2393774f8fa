"""The synthetic towns: plan, scene, orthophoto, street views."""
