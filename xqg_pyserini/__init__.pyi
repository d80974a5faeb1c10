# The public names, and where each comes from; see __init__.py

from .data import (
    CorpusLike as CorpusLike,
)
from .data import (
    GeneratedQueries as GeneratedQueries,
)
from .data import (
    Passage as Passage,
)
from .data import (
    Qrels as Qrels,
)
from .data import (
    QrelsLike as QrelsLike,
)
from .data import (
    Question as Question,
)
from .data import (
    QuestionsLike as QuestionsLike,
)
from .data import (
    Run as Run,
)
from .data import (
    RunLike as RunLike,
)
from .data import (
    as_corpus as as_corpus,
)
from .data import (
    as_qrels as as_qrels,
)
from .data import (
    as_questions as as_questions,
)
from .data import (
    as_run as as_run,
)
from .data import (
    read_corpus as read_corpus,
)
from .data import (
    read_qrels as read_qrels,
)
from .data import (
    read_questions as read_questions,
)
from .data import (
    read_run as read_run,
)
from .data import (
    write_run as write_run,
)
from .errors import (
    UserError as UserError,
)
from .errors import (
    XqgWarning as XqgWarning,
)
from .evaluation.choosing import (
    ChoosingSettings as ChoosingSettings,
)
from .evaluation.ir_measure import (
    RAtKt as RAtKt,
)
from .evaluation.results import (
    ComparingSettings as ComparingSettings,
)
from .evaluation.results import (
    Comparison as Comparison,
)
from .evaluation.results import (
    Comparisons as Comparisons,
)
from .evaluation.results import (
    PointSettings as PointSettings,
)
from .evaluation.results import (
    Results as Results,
)
from .evaluation.results import (
    RunScores as RunScores,
)
from .evaluation.results import (
    Scores as Scores,
)
from .evaluation.scores import (
    ScoringSettings as ScoringSettings,
)
from .evaluation.scores import (
    evaluate as evaluate,
)
from .evaluation.scores import (
    r_at_kt as r_at_kt,
)
from .evaluation.significance import (
    Interval as Interval,
)
from .evaluation.significance import (
    correct as correct,
)
from .evaluation.significance import (
    fisher as fisher,
)
from .evaluation.significance import (
    mcnemar as mcnemar,
)
from .evaluation.significance import (
    student as student,
)
from .evaluation.submission import (
    Submission as Submission,
)
from .evaluation.submission import (
    SubmissionSettings as SubmissionSettings,
)
from .evaluation.submission import (
    check_submission as check_submission,
)
from .evaluation.submission import (
    write_submission as write_submission,
)
from .fusion.formula import (
    Centers as Centers,
)
from .fusion.formula import (
    Fusion as Fusion,
)
from .fusion.formula import (
    FusionSettings as FusionSettings,
)
from .fusion.formula import (
    augment as augment,
)
from .fusion.fused import (
    Liberties as Liberties,
)
from .fusion.geometry import (
    Geometry as Geometry,
)
from .fusion.geometry import (
    examine_stores as examine_stores,
)
from .generate.check import (
    Coverage as Coverage,
)
from .generate.check import (
    LanguageCheck as LanguageCheck,
)
from .generate.check import (
    QueryCheck as QueryCheck,
)
from .generate.check import (
    check_queries as check_queries,
)
from .generate.filter import (
    FilterReport as FilterReport,
)
from .generate.filter import (
    FilterSettings as FilterSettings,
)
from .generate.filter import (
    filter_queries as filter_queries,
)
from .generate.job import (
    GenerationJob as GenerationJob,
)
from .generate.job import (
    GenerationSummary as GenerationSummary,
)
from .generate.job import (
    generate_queries as generate_queries,
)
from .generate.prompts import (
    PromptTemplate as PromptTemplate,
)
from .generate.rules import (
    TextRules as TextRules,
)
from .generate.settings import (
    GeneratorSettings as GeneratorSettings,
)
from .generate.settings import (
    JobSettings as JobSettings,
)
from .models.encoder import (
    Encoder as Encoder,
)
from .models.encoder import (
    Encodes as Encodes,
)
from .models.engines import (
    Computing as Computing,
)
from .models.registry import (
    EncoderOptions as EncoderOptions,
)
from .models.registry import (
    EncoderSettings as EncoderSettings,
)
from .models.tuning.methods import (
    TuningSettings as TuningSettings,
)
from .report.explorer import (
    Similarities as Similarities,
)
from .report.explorer import (
    similarities as similarities,
)
from .report.page import (
    write_page as write_page,
)
from .report.page_inputs import (
    ExploreSettings as ExploreSettings,
)
from .report.results import (
    read_results as read_results,
)
from .report.results import (
    record_inputs as record_inputs,
)
from .report.results import (
    write_results as write_results,
)
from .report.tables import (
    results_text as results_text,
)
from .retrieve.accumulate import (
    AccumulateSettings as AccumulateSettings,
)
from .retrieve.accumulate import (
    QuerySource as QuerySource,
)
from .retrieve.accumulate import (
    accumulate_queries as accumulate_queries,
)
from .retrieve.encode import (
    EncodeSettings as EncodeSettings,
)
from .retrieve.encode import (
    encode_passages as encode_passages,
)
from .retrieve.fused import (
    Fused as Fused,
)
from .retrieve.grid import (
    GridSettings as GridSettings,
)
from .retrieve.grid import (
    Point as Point,
)
from .retrieve.index import (
    IndexSettings as IndexSettings,
)
from .retrieve.index import (
    write_index as write_index,
)
from .retrieve.search import (
    Index as Index,
)
from .retrieve.search import (
    SearchSettings as SearchSettings,
)
from .retrieve.sweep import (
    SweepSettings as SweepSettings,
)
from .retrieve.sweep import (
    run_sweep as run_sweep,
)
from .retrieve.through import (
    generate_and_accumulate as generate_and_accumulate,
)
from .stores import (
    Block as Block,
)
from .stores import (
    QueryStore as QueryStore,
)
from .stores import (
    VectorStore as VectorStore,
)
from .train.generator import (
    train_generator as train_generator,
)
from .train.mine import (
    Mined as Mined,
)
from .train.mine import (
    Mining as Mining,
)
from .train.mine import (
    mine_negatives as mine_negatives,
)
from .train.perturb import (
    Perturbation as Perturbation,
)
from .train.perturb import (
    learn_lexicon as learn_lexicon,
)
from .train.perturb import (
    perturb as perturb,
)
from .train.perturb import (
    perturb_questions as perturb_questions,
)
from .train.retriever import (
    train_retriever as train_retriever,
)
from .train.settings import (
    GeneratorTrainingSettings as GeneratorTrainingSettings,
)
from .train.settings import (
    RetrieverSettings as RetrieverSettings,
)

__version__: str
