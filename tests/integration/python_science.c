/*
 * Typical use: scientific snippets with their exact output, each run from a warm zygote.
 */
#include "testing.h"

#include "python.h"

#include <stdlib.h>

static struct runner *the_runner;

static struct runner *shared(void)
{
    static const char *const settings[] = {NULL};
    struct runner *runner = runner_shared(&the_runner, settings);
    python_needed(runner, NULL);
    return runner;
}

struct snippet {
    const char *code, *out;
};

static const struct snippet standard[] = {
    {"import math\nprint(math.factorial(20), math.gcd(462, 1071), math.isclose(0.1 + 0.2, 0.3))",
     "2432902008176640000 21 True\n"},
    {"import cmath\nprint(cmath.sqrt(-4))", "2j\n"},
    {"from decimal import Decimal, getcontext\ngetcontext().prec = 30\nprint(Decimal(2).sqrt())",
     "1.41421356237309504880168872421\n"},
    {"from fractions import Fraction\nprint(sum(Fraction(1, n) for n in range(1, 11)))",
     "7381/2520\n"},
    {"import statistics as s\nd = [2, 4, 4, 4, 5, 5, 7, 9]\nprint(s.mean(d), s.pstdev(d), "
     "s.median(d))",
     "5 2.0 4.5\n"},
    {"import itertools\nprint(list(itertools.accumulate([1, 2, 3, 4])), "
     "len(list(itertools.permutations(range(5)))))",
     "[1, 3, 6, 10] 120\n"},
    {"from functools import lru_cache\n@lru_cache(None)\ndef f(n):\n    return n if n < 2 else f(n "
     "- 1) + f(n - 2)\nprint(f(90))",
     "2880067194370816120\n"},
    {"from collections import Counter\nprint(Counter('mississippi').most_common(2))",
     "[('i', 4), ('s', 4)]\n"},
    {"import heapq, bisect\nh = [5, 1, 4]\nheapq.heapify(h)\nprint(heapq.heappop(h), "
     "bisect.bisect([1, 3, 5], 3))",
     "1 2\n"},
    {"import datetime as d\nprint((d.date(2024, 3, 1) - d.timedelta(days=1)).isoformat(), "
     "d.datetime.strptime('2024-02-29', '%Y-%m-%d').strftime('%j'))",
     "2024-02-29 060\n"},
    {"import re, textwrap\nprint(re.sub(r'(\\w+)@(\\w+)', r'\\2 at \\1', 'a@b'), "
     "textwrap.shorten('hello big world', 12))",
     "b at a hello [...]\n"},
    {"import json, csv\nfrom io import StringIO\nrows = "
     "list(csv.DictReader(StringIO('a,b\\n1,2\\n')))\nprint(json.dumps(rows))",
     "[{\"a\": \"1\", \"b\": \"2\"}]\n"},
    {"import unicodedata\nprint(unicodedata.normalize('NFKD', '\u00e9').encode())",
     "b'e\\xcc\\x81'\n"},
    {"import random\nr = random.Random(42)\nprint(r.randint(1, 100), r.choice('abc'))", "82 a\n"},
    {"class Matrix:\n    def __init__(self, r):\n        self.r = r\n    def __matmul__(self, "
     "o):\n        return Matrix([[sum(a * b for a, b in zip(x, y)) for y in zip(*o.r)] for x in "
     "self.r])\nprint((Matrix([[1, 2], [3, 4]]) @ Matrix([[0, 1], [1, 0]])).r)",
     "[[2, 1], [4, 3]]\n"},
};

static const struct snippet arrays[] = {
    {"import numpy as np\nprint(np.arange(6).reshape(2, 3).sum(axis=0))", "[3 5 7]\n"},
    {"import numpy as np\nprint(np.linalg.det(np.array([[2, 1], [1, 3]])).round(6))", "5.0\n"},
    {"import numpy as np\nprint(np.linalg.solve([[3, 1], [1, 2]], [9, 8]))", "[2. 3.]\n"},
    {"import numpy as np\nprint(np.fft.fft([1, 0, 0, 0]).real)", "[1. 1. 1. 1.]\n"},
    {"import numpy as np\nprint(np.random.default_rng(0).integers(0, 10, 5))", "[8 6 5 2 3]\n"},
    {"import numpy as np\na = np.eye(200)\nprint((a @ a).trace())", "200.0\n"},
    {"import numpy as np\nprint(np.polyfit([0, 1, 2], [1, 3, 5], 1).round(3))", "[2. 1.]\n"},
    {"import numpy as np\nprint(np.percentile(range(11), [25, 50, 75]))", "[2.5 5.  7.5]\n"},
};

static const struct snippet tables[] = {
    {"import pandas as pd\nd = pd.DataFrame({'k': list('aab'), 'v': [1, 2, "
     "3]})\nprint(d.groupby('k').v.sum().to_dict())",
     "{'a': 3, 'b': 3}\n"},
    {"import pandas as pd\nprint(pd.Series([3, 1, 2]).sort_values().tolist())", "[1, 2, 3]\n"},
    {"import pandas as pd\na = pd.DataFrame({'k': [1, 2], 'x': [3, 4]})\nb = pd.DataFrame({'k': "
     "[2, 1], 'y': [5, 6]})\nprint(a.merge(b, on='k').to_dict('list'))",
     "{'k': [1, 2], 'x': [3, 4], 'y': [6, 5]}\n"},
    {"import pandas as pd\nprint(pd.date_range('2024-01-31', periods=3, "
     "freq='M').strftime('%d').tolist())",
     "['31', '29', '31']\n"},
    {"import pandas as pd\nfrom io import "
     "StringIO\nprint(pd.read_csv(StringIO('a,b\\n1,2\\n3,4')).mean().tolist())",
     "[2.0, 3.0]\n"},
    {"import pandas as pd\nd = pd.DataFrame({'r': ['x', 'x', 'y'], 'c': ['p', 'q', 'p'], 'v': [1, "
     "2, 3]})\nprint(d.pivot(index='r', columns='c', values='v').fillna(0).values.tolist())",
     "[[1.0, 2.0], [3.0, 0.0]]\n"},
    {"import pandas as pd\nprint(pd.DataFrame({'a': [1, None]}).isna().sum().a)", "1\n"},
};

static const struct snippet heavy[] = {
    {"import sympy as s\nx = s.Symbol('x')\nprint(s.solve(x**2 - 5*x + 6, x), s.diff(s.sin(x)**2, "
     "x))",
     "[2, 3] 2*sin(x)*cos(x)\n"},
    {"import sympy as s\nx = s.Symbol('x')\nprint(s.integrate(s.exp(-x**2), (x, -s.oo, s.oo)))",
     "sqrt(pi)\n"},
    {"from sympy import factorint, isprime\nprint(factorint(5040), isprime(2**31 - 1))",
     "{2: 4, 3: 2, 5: 1, 7: 1} True\n"},
    {"from sympy.abc import x\nfrom sympy import limit, sin\nprint(limit(sin(x) / x, x, 0))",
     "1\n"},
    {"from scipy.optimize import brentq\nprint(round(brentq(lambda x: x**2 - 2, 0, 2), 9))",
     "1.414213562\n"},
    {"from scipy.integrate import quad\nimport math\nprint(round(quad(math.sin, 0, math.pi)[0], "
     "9))",
     "2.0\n"},
    {"from scipy import stats\nprint(round(stats.norm.cdf(1.96), 6))", "0.975002\n"},
    {"from scipy.linalg import expm\nprint(expm([[0, 0], [0, 0]]).tolist())",
     "[[1.0, 0.0], [0.0, 1.0]]\n"},
    {"from scipy.interpolate import interp1d\nprint(float(interp1d([0, 1], [0, 10])(0.3)))",
     "3.0\n"},
    {"from sklearn.linear_model import LinearRegression\nimport numpy as np\nm = "
     "LinearRegression().fit(np.array([[0], [1], [2]]), [1, 3, 5])\nprint(m.coef_.round(6), "
     "round(m.intercept_, 6))",
     "[2.] 1.0\n"},
    {"from sklearn.datasets import load_iris\nfrom sklearn.tree import DecisionTreeClassifier\nX, "
     "y = load_iris(return_X_y=True)\nprint(DecisionTreeClassifier(random_state=0).fit(X, "
     "y).score(X, y))",
     "1.0\n"},
    {"from sklearn.cluster import KMeans\nimport numpy as np\nprint(sorted(KMeans(2, n_init=1, "
     "random_state=0).fit(np.array([[0.], [0.1], [9.], "
     "[9.1]])).cluster_centers_.ravel().round(2).tolist()))",
     "[0.05, 9.05]\n"},
    {"from sklearn.ensemble import RandomForestClassifier\nimport numpy as np\nX = "
     "np.arange(20).reshape(-1, 1)\nprint(RandomForestClassifier(10, random_state=0).fit(X, "
     "X.ravel() > 9).predict([[1], [18]]))",
     "[False  True]\n"},
    {"from sklearn.preprocessing import "
     "StandardScaler\nprint(StandardScaler().fit_transform([[0.], [2.]]).ravel())",
     "[-1.  1.]\n"},
    {"import matplotlib.pyplot as plt\nf, a = plt.subplots()\na.hist([1, 2, 2, 3], "
     "bins=3)\nprint(len(a.patches))\nplt.close()",
     "3\n"},
};

static void run_all(const struct snippet *snippets, size_t count)
{
    for (size_t i = 0; i < count; i++)
        python_prints(shared(), snippets[i].code, snippets[i].out);
}

static void the_standard_library(void **state)
{
    (void)state;
    run_all(standard, COUNT(standard));
}

static void numpy(void **state)
{
    (void)state;
    python_needed(shared(), "numpy");
    run_all(arrays, COUNT(arrays));
}

static void pandas(void **state)
{
    (void)state;
    python_needed(shared(), "pandas");
    run_all(tables, COUNT(tables));
}

static void scipy_sympy_sklearn_and_matplotlib(void **state)
{
    (void)state;
    python_needed(shared(), "scipy");
    python_needed(shared(), "sympy");
    python_needed(shared(), "sklearn");
    python_needed(shared(), "matplotlib");
    run_all(heavy, COUNT(heavy));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_standard_library),
        cmocka_unit_test(numpy),
        cmocka_unit_test(pandas),
        cmocka_unit_test(scipy_sympy_sklearn_and_matplotlib),
    };
    return cmocka_run_group_tests(tests, NULL, shared_stop);
}
