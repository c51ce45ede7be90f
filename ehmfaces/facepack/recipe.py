"""How to make a renderer somewhere else: settings and a model's name, small enough to travel.

Owns the check that the other machine has the same model. Does not know engines.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ehmfaces.errors import UnsupportedModelError
from ehmfaces.facepack.plan import FacepackSettings
from ehmfaces.types import Seed


@dataclass(frozen=True)
class RendererRecipe:
    """Gives a function from a seed to PNG bytes when it is called, in any process and on any machine.

    Attributes:
        settings: Of the pack; `model_hash` is compared where it is not empty.
        model: As `load_pipeline` takes it.
        device: As `load_pipeline` takes it.
        engine: As `load_pipeline` takes it.
        precision: As `load_pipeline` takes it.
    """

    settings: FacepackSettings
    model: str | None = None
    device: str | None = None
    engine: str | None = None
    precision: str | None = None

    def __call__(self) -> Callable[[Seed], bytes]:
        """Load the models.

        Raises:
            UnsupportedModelError: The model here is another one than the plan was made for.
            ModelError: The model is not there or is damaged.
        """
        from ehmfaces.facepack.render import renderer_for
        from ehmfaces.hub import load_pipeline

        pipeline = load_pipeline(self.model, self.device, self.engine, self.precision)
        wanted = self.settings.model_hash
        if wanted and pipeline.model_hash != wanted:
            raise UnsupportedModelError(
                f'The model "{pipeline.model_id}" of a worker is {pipeline.model_hash}, the plan was made '
                f"with {wanted}. Install the same version of ehmfaces and the same model on every machine."
            )
        return renderer_for(pipeline, self.settings)
