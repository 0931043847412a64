// Sets the theme that was chosen on an earlier visit, before anything is painted. settings.js keeps it under this key.
try {
  const { theme } = JSON.parse(localStorage.getItem('face96') ?? '{}');
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch {
  // A browser that keeps nothing, or something else under our key: the system's theme it is.
}
