import pytest
from small_world import World, make_world

from geoloc.spec import EncoderSpec
from geoloc.street_view import read_street_view
from indexing.answer import Answer, answer, open_gallery


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_spec: EncoderSpec) -> World:
    return make_world(tmp_path_factory.mktemp("world"), tiny_spec)


@pytest.fixture(scope="session")
def answered(world: World) -> Answer:
    """The panorama's five best tiles."""
    gallery, encoder = open_gallery(world.gallery)
    with gallery:
        return answer(read_street_view(world.panorama), gallery, encoder, k=5)
