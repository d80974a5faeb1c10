# The public names, and where each comes from; see __init__.py

from .cluster import LostWorkersError as LostWorkersError
from .data import (
    CorpusFields as CorpusFields,
    CorpusFile as CorpusFile,
    CorpusLike as CorpusLike,
    GeneratedQueries as GeneratedQueries,
    Passage as Passage,
    Qrels as Qrels,
    QrelsLike as QrelsLike,
    Question as Question,
    QuestionFields as QuestionFields,
    QuestionFiles as QuestionFiles,
    QuestionsLike as QuestionsLike,
    Run as Run,
    RunFile as RunFile,
    RunLike as RunLike,
    RunSettings as RunSettings,
    as_corpus as as_corpus,
    as_qrels as as_qrels,
    as_questions as as_questions,
    as_run as as_run,
    read_corpus as read_corpus,
    read_qrels as read_qrels,
    read_questions as read_questions,
    read_run as read_run,
    write_run as write_run,
)
from .errors import UserError as UserError, XqgWarning as XqgWarning
from .evaluation.choosing import ChoosingSettings as ChoosingSettings
from .evaluation.ir_measure import RAtKt as RAtKt
from .evaluation.mteb import mteb_results as mteb_results
from .evaluation.published import (
    Published as Published,
    PublishedFigure as PublishedFigure,
    check_published as check_published,
)
from .evaluation.results import (
    ByLanguage as ByLanguage,
    ComparingSettings as ComparingSettings,
    Comparison as Comparison,
    Comparisons as Comparisons,
    LanguageScore as LanguageScore,
    PointSettings as PointSettings,
    Results as Results,
    RunScores as RunScores,
    Scores as Scores,
)
from .evaluation.scores import ScoringSettings as ScoringSettings, evaluate as evaluate, r_at_kt as r_at_kt
from .evaluation.significance import (
    Correction as Correction,
    Interval as Interval,
    correct as correct,
    fisher as fisher,
    mcnemar as mcnemar,
    student as student,
)
from .evaluation.submission import (
    Submission as Submission,
    SubmissionSettings as SubmissionSettings,
    check_submission as check_submission,
    write_submission as write_submission,
)
from .files import FilePath as FilePath, Line as Line
from .fusion.alignment import Alignment as Alignment
from .fusion.formula import Centers as Centers, Fusion as Fusion, FusionSettings as FusionSettings, augment as augment
from .fusion.fused import FusedStores as FusedStores, Languages as Languages, Tolerances as Tolerances
from .fusion.geometry import (
    Geometry as Geometry,
    LanguageGeometry as LanguageGeometry,
    QueryCounts as QueryCounts,
    Separation as Separation,
    VectorLengths as VectorLengths,
    examine_stores as examine_stores,
)
from .fusion.runs import FuseSettings as FuseSettings, fuse_runs as fuse_runs
from .generate.check import (
    Coverage as Coverage,
    LanguageCheck as LanguageCheck,
    QueryCheck as QueryCheck,
    check_queries as check_queries,
)
from .generate.filter import (
    FilterReport as FilterReport,
    FilterSettings as FilterSettings,
    filter_queries as filter_queries,
)
from .generate.job import (
    GenerationJob as GenerationJob,
    GenerationSummary as GenerationSummary,
    generate_queries as generate_queries,
)
from .generate.prompts import PromptTemplate as PromptTemplate
from .generate.rules import Sifted as Sifted, TextRules as TextRules
from .generate.settings import GeneratorSettings as GeneratorSettings, JobSettings as JobSettings
from .models.encoder import Encoded as Encoded, Encoder as Encoder, Encodes as Encodes, Progress as Progress
from .models.engines import Computing as Computing
from .models.known import (
    CheckedEncoder as CheckedEncoder,
    KnownEncoder as KnownEncoder,
    check_encoder as check_encoder,
    known_encoders as known_encoders,
)
from .models.registry import EncoderOptions as EncoderOptions, EncoderSettings as EncoderSettings, Role as Role
from .models.reranker import Reranker as Reranker
from .models.tuning.methods import TuningSettings as TuningSettings
from .report.explorer import Similarities as Similarities, similarities as similarities
from .report.page import WrittenPage as WrittenPage, write_page as write_page
from .report.page_inputs import ExploreSettings as ExploreSettings
from .report.results import read_results as read_results, record_inputs as record_inputs, write_results as write_results
from .report.tables import results_text as results_text
from .retrieve.accumulate import (
    AccumulateSettings as AccumulateSettings,
    QuerySource as QuerySource,
    accumulate_queries as accumulate_queries,
    accumulate_shards as accumulate_shards,
)
from .retrieve.align import AlignSettings as AlignSettings, align as align, align_shards as align_shards
from .retrieve.check import CheckedFile as CheckedFile, check_folder as check_folder
from .retrieve.encode import (
    EncodeSettings as EncodeSettings,
    encode_passages as encode_passages,
    encode_shards as encode_shards,
)
from .retrieve.expand import Expanded as Expanded, ExpandSettings as ExpandSettings, expand_passages as expand_passages
from .retrieve.export import ExportSettings as ExportSettings, export_index as export_index
from .retrieve.fused import Fused as Fused
from .retrieve.grid import Aligned as Aligned, GridSettings as GridSettings, Point as Point, Scope as Scope
from .retrieve.index import IndexSettings as IndexSettings, index_shards as index_shards, write_index as write_index
from .retrieve.merge import merge_shards as merge_shards
from .retrieve.query_vectors import QueryVectorSettings as QueryVectorSettings, encode_generated as encode_generated
from .retrieve.rerank import Reranking as Reranking, RerankSettings as RerankSettings, rerank as rerank
from .retrieve.search import Index as Index, SearchSettings as SearchSettings
from .retrieve.sharding import WrittenShards as WrittenShards
from .retrieve.sweep import SweepSettings as SweepSettings, run_sweep as run_sweep
from .retrieve.through import generate_and_accumulate as generate_and_accumulate
from .stores import (
    Block as Block,
    IdIndex as IdIndex,
    QueryStore as QueryStore,
    Shard as Shard,
    ShardSettings as ShardSettings,
    VectorStore as VectorStore,
)
from .train.generator import train_generator as train_generator
from .train.mine import Mined as Mined, MiningSettings as MiningSettings, mine_negatives as mine_negatives
from .train.perturb import (
    Lexicon as Lexicon,
    PerturbationSettings as PerturbationSettings,
    learn_lexicon as learn_lexicon,
    perturb as perturb,
    perturb_questions as perturb_questions,
)
from .train.retriever import train_retriever as train_retriever
from .train.settings import (
    GeneratorTrainingSettings as GeneratorTrainingSettings,
    RetrieverSettings as RetrieverSettings,
)

__version__: str
