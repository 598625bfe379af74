from .evaluation import (
    Evaluation as Evaluation,
    evaluate as evaluate,
)
from .gate import (
    Gate as Gate,
    judge as judge,
)
from .labelled import (
    Labelled as Labelled,
    LabelledPictures as LabelledPictures,
    labelled_in_folders as labelled_in_folders,
    labelled_in_records as labelled_in_records,
)
from .results import (
    make_page as make_page,
    to_json as to_json,
)
from .scores import (
    Interval as Interval,
    score as score,
)
